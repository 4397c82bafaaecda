"""A model's replicas on Ray Serve, and the ingress in front of them. Needs the extra `ray`."""
