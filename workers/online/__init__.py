"""`headrace-worker serve`: one model over HTTP, with the engine and the pipeline of a job."""
