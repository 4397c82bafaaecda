"""RemoteEngine: a model that other servers serve, over one of several upstreams."""
