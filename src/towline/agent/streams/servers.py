"""Which part of the agent serves which kind of target."""

from __future__ import annotations

from towline.agent.host.inventory import Inventory
from towline.agent.jobs.context import Host
from towline.agent.kubernetes.forward import KubeServer
from towline.agent.streams.dialling import Dialler
from towline.agent.streams.exec import ExecServer
from towline.agent.streams.kube_service import KubeServiceServer
from towline.agent.streams.logs import LogServer
from towline.agent.streams.router import Server
from towline.agent.streams.transfers import Transfers
from towline.wire import streams


def servers(
    host: Host, inventory: Inventory, kubernetes: KubeServer, services: KubeServiceServer
) -> dict[type, Server]:
    """Make the servers of all targets."""
    dialler = Dialler(host.policy, inventory.addressed)
    transfers = Transfers(host.bundles, host.records)
    return {
        streams.Tcp: dialler.serve_tcp,
        streams.Service: dialler.serve_service,
        streams.KubeService: services.serve,
        streams.Exec: ExecServer(host.engine, host.policy).serve,
        streams.Logs: LogServer(host.engine, host.policy).serve,
        streams.Kube: kubernetes.serve,
        streams.Bundle: transfers.serve_bundle,
        streams.Measure: transfers.serve_measure,
    }
