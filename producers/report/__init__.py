"""The report of a job: one HTML page that opens from disk, without a network.

facts.py               what the output says about the job, read within bounds
from_parts.py          figures counted from parts
from_traces.py         figures read from traces
estimate_vs_actual.py  the estimate beside the result
plot_canvas.py         SVG in the page's colours
plots_of_time.py       plots of throughput, workers, stages, batches
plots_of_rows.py       plots of labels, scores, lengths, padding
page.py                all of it in the template page.html; the entry point is `build_report`
"""

from producers.report.page import build_report as build_report
