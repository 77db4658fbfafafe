"""What runs inside a rank: build, warm up, measure, record. Everything here imports torch."""
