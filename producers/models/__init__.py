"""A model by its name: folder, bucket or hub, resolved to a digest."""
