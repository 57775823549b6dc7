"""The engine of encoders and decoders in torch: rows packed without padding."""
