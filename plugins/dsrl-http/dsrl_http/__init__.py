"""What teachers and samplers behind a network share, on the official SDKs of their providers."""
