"""A Beam pipeline of one's own: rows of a view, joined with a table from elsewhere."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from boiler_beam.beam import ComputeRows
from boiler_beam.events import Change
from boiler_beam.samples.meeting import OrganizationSummary

USERS = [
    Change("users/u1", 1, {"firstName": "Ann", "lastName": "Gray", "organization": "elm"}),
    Change("users/u2", 1, {"firstName": "Bo", "lastName": "Lind", "organization": "elm"}),
    Change("users/u3", 1, {"firstName": "Cy", "lastName": "Moss", "organization": "oak"}),
    Change("users/u1", 2, {"firstName": "Ann", "lastName": "Gray", "organization": "oak"}),
]
INVOICES = ["elm,120.00", "oak,75.50", "oak,24.50"]  # or beam.io.ReadFromText("invoices.csv")


def line(organization: str, joined: dict[str, list[float]]) -> str:
    """Returns a line about an organization: its users by the view, its invoices by the table."""
    return f"{organization}: {joined['users'][0]} users, {sum(joined['invoices']):.2f} to pay"


def main() -> None:
    """Builds and runs the pipeline; Beam's own options are on the command line."""
    with beam.Pipeline(options=PipelineOptions()) as pipeline:
        computed = pipeline | beam.Create(USERS) | ComputeRows(OrganizationSummary)
        users = computed.rows | "Users" >> beam.Map(lambda row: (row.path.split("/")[1], row.fields["numUsers"]))
        cells = pipeline | "Invoices" >> beam.Create(INVOICES) | "Cells" >> beam.Map(lambda text: text.split(","))
        invoices = cells | "Amounts" >> beam.Map(lambda cell: (cell[0], float(cell[1])))
        joined = {"users": users, "invoices": invoices} | beam.CoGroupByKey()
        joined | "Lines" >> beam.MapTuple(line) | "Print" >> beam.Map(print)


if __name__ == "__main__":
    main()
