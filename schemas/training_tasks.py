"""Names of the tasks whose jobs train a model. Apart from the records: `--help` needs no pydantic."""

TRAINING, TOKEN_TRAINING = "training", "token-training"
"""The task of a job that trains; the task of its model is in `TrainingSpec.task`."""
JOB_TASKS = {"text-classification": TRAINING, "token-classification": TOKEN_TRAINING}
"""The task of a job by that of the model which it trains."""
