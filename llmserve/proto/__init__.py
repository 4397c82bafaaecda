"""What gRPC carries: `v1/generation.proto`, and the code that `scripts/make_proto` makes of it."""
