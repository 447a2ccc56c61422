"""Engines that end and come back while containers run."""

import pytest

from tests.swarm.swarm_site import SwarmSite

pytestmark = pytest.mark.by_turns


def test_a_container_starts_again_after_its_nodes_engine_did(swarm: SwarmSite) -> None:
    """The engine brings the plugin up with its state; the container gets the address that it asked for."""
    manager, worker = swarm.nodes
    swarm.create("lan", "10.65.0.0/24")
    manager.start("lan", "c1", "--ip=10.65.0.11")
    worker.start("lan", "c2", "--ip=10.65.0.12")
    worker.host.restart_engine()
    swarm.wait_for_nodes(2)
    worker.docker("start", "c2")
    assert worker.reaches("c2", "c1")
    assert manager.reaches("c1", "10.65.0.12")


def test_the_managers_engine_restarts_and_the_swarm_knows_what_is_taken(swarm: SwarmSite) -> None:
    """The only manager comes back: containers of the worker ran on, and their addresses are given to nobody else."""
    manager, worker = swarm.nodes
    swarm.create("lan", "10.65.0.0/29")
    worker.start("lan", "c2")
    taken = worker.docker("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}}", "c2")
    manager.host.restart_engine()
    swarm.wait_for_nodes(2)
    manager.start("lan", "c1")
    given = manager.docker("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}}", "c1")
    assert given != taken
    assert manager.reaches("c1", taken)
    # the engines of a single manager and its workers tell each other names again a minute later, or at a worker's start
    worker.host.restart_engine()
    swarm.wait_for_nodes(2)
