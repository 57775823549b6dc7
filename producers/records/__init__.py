"""What is recorded of a job while it runs and after: registry, receipts, manifest, snapshot."""
