"""What a front, which computes nothing itself, costs for each request and each token."""
