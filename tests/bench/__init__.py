"""`make bench`: Portway beside other proxies, the same load and endpoint in turn, as ratios of one run."""
