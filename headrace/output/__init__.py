"""The files of a job's output besides its rows: the job's record, its plan, what may be reused."""
