"""How the documentation is built: `make docs`."""

project = "boiler_beam"
copyright = "the boiler_beam authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_enable_extensions = ["deflist"]
exclude_patterns: list[str] = []
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = False
