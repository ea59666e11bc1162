"""Ties deployments to the rest of the control plane: ports to their adapters, kinds of jobs to their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.deployments import intents
from towline.control.deployments.adapters import ClusterFleet, JobQueue, LinkedAgents
from towline.control.deployments.feature import Deployments
from towline.control.deployments.figures import Figures
from towline.control.deployments.handlers import DeployHandler, OperationHandler
from towline.control.deployments.validation import ValidateHandler
from towline.control.deployments.vault import Vault

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

OPERATIONS = ("compose.stop", "compose.start", "compose.restart", "compose.scale", "compose.remove",
              "compose.prune", "compose.adopt")  # fmt: skip


def deployments_of(control: ControlPlane) -> Deployments:
    """Build the deployments of a control plane, and take over the jobs that are theirs."""
    fleet, jobs = ClusterFleet(), control.fleet.jobs
    vault = Vault(control.sealer)
    figures = Figures(control.metrics.registry)
    agents = LinkedAgents(control.fleet.links, control.fleet.agents, control.bundles)
    jobs.register(intents.DEPLOY, DeployHandler(control.db, fleet, agents, vault, control.registries, figures))
    jobs.register(intents.VALIDATE, ValidateHandler(agents, vault))
    operation = OperationHandler(vault)
    for kind in OPERATIONS:
        jobs.register(kind, operation)
    return Deployments(
        control.db,
        control.bus,
        control.audit,
        fleet,
        JobQueue(jobs),
        vault,
        control.registries,
        control.bundles,
        figures,
        clock=control.clock,
        keep_bundle_days=control.settings.keep_bundle_days,
    )
