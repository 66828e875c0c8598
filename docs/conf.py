"""How the documentation is built: `make docs`."""

project = "boiler_beam"
copyright = "the boiler_beam authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "boiler_beam"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
myst_enable_extensions = ["colon_fence", "deflist"]
exclude_patterns: list[str] = []
myst_heading_anchors = 3
default_role = "code"  # in docstrings `name` is a name
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = False
