"""The proxies that stand beside each other, each with the same scene in its own configuration."""

from bench.peers.baseline import Baseline
from bench.peers.envoy import Envoy
from bench.peers.haproxy import HAProxy
from bench.peers.nginx import Nginx
from bench.peers.peer import Peer
from bench.peers.portway import Portway

__all__ = ["Baseline", "Envoy", "HAProxy", "Nginx", "Peer", "Portway"]
