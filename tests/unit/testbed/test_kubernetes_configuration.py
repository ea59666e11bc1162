"""Configuration files of the cluster's programs."""

from pathlib import Path

from tests.testbed.kubernetes import configuration


def test_a_file_that_says_the_same_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kube-proxy.yaml"
    configuration.write(path, {"mode": "iptables"})
    written = path.stat().st_mtime_ns
    configuration.write(path, {"mode": "iptables"})
    assert path.stat().st_mtime_ns == written
    configuration.write(path, {"mode": "nftables"})
    assert "nftables" in path.read_text()
