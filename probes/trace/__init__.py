"""Where on the path a messenger's packets die: sweeps of the hop limit, and what they say."""
