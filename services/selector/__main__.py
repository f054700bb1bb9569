"""Composition root of the selector: `python -m services.selector`."""

from __future__ import annotations

from services.selector.calibrations import redis_labels
from services.selector.handler import Selector
from services.selector.profiles import redis_loader
from services.selector.settings import SelectorSettings
from shared.health import HealthServer
from shared.heartbeat import Heartbeat, new_member
from shared.process import on_signals, run
from shared.streams import GroupReader, OwnedStream, connect
from shared.telemetry import configure
from shared.topics import SELECT, SELECTOR_GROUP, Keys
from shared.worker import Worker


def main() -> None:
    """Serve until a signal; one line and an exit code other than 0 when that cannot start."""
    run(SelectorSettings, serve)


def serve(settings: SelectorSettings) -> None:
    """Build everything, then run the worker. Raises ConfigurationError, and BusUnavailable at the start only."""
    url, keys, member = settings.bus_url, Keys(settings.cell), new_member(settings.name)
    with configure("selector", member) as telemetry:
        client = connect(url)
        worker = Worker(
            GroupReader(connect(url, blocking=True), keys.select, SELECTOR_GROUP, member),
            Selector(
                keys,
                settings.policy_settings,
                redis_loader(client, keys),
                telemetry,
                redis_labels(client, keys) if settings.calibration else None,
            ),
            client=client,
            decode=SELECT.decode,
            key=lambda message: (message.verifier, message.ring),
            hop="select",
            telemetry=telemetry,
        )
        heartbeat = Heartbeat(
            url,
            keys,
            "selector",
            member,
            describe=lambda: {"policy": settings.policy},
            owned_streams=[OwnedStream(keys.select, SELECTOR_GROUP)],
            healthy=worker.pulse.healthy,
        )
        health = HealthServer(
            settings.http_host,
            settings.http_port,
            ready=lambda: heartbeat.on_time_for(0),
            live=lambda: heartbeat.is_running and worker.pulse.healthy(),
            metrics=telemetry.prometheus,
        )

        def drain() -> None:
            heartbeat.leave()
            worker.stop()

        on_signals(drain)
        with heartbeat:
            health.start()
            try:
                worker.run()
            finally:
                health.stop()


if __name__ == "__main__":
    main()
