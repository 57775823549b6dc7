"""The report of a job: one HTML page that opens from disk, without a network.

facts.py         what the output says of the job, read within bounds
drawing.py       SVG that follows the page's colours, and numbers written for people
time_figures.py  plots of throughput, workers, stages, batches
row_figures.py   plots of labels, scores, lengths, padding
page.py          all of it in the template page.html; the door is `build_report`
"""

from producers.report.page import build_report as build_report
