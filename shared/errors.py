"""Every exception AdaServe raises on purpose.

AdaServeError
├── ConfigurationError        a setting, model directory or port the operator must change
│   ├── ModelError            a model directory that is refused or unreadable
│   ├── TraceError            a request trace, or the name of one, that is malformed
│   └── PolicyError           a policy, or prices beside it, that is malformed or does not fit its use
├── GrammarError              a JSON Schema that cannot be compiled, or an output that left its grammar
├── UnreadableMessage         bytes on a stream that are not a valid message
├── OutOfBlocks               the KV pool cannot hold what was asked for
└── BusUnavailable            Redis is away, read-only, loading or out of memory
"""

from __future__ import annotations


class AdaServeError(Exception):
    """Base of all deliberate errors; its text is one line an operator can act on."""


class ConfigurationError(AdaServeError):
    """The service cannot start with these settings."""


class ModelError(ConfigurationError):
    """A model directory or hub id is refused or cannot be read."""


class TraceError(ConfigurationError):
    """A request trace that is unreadable or malformed, or a workload that does not exist."""


class PolicyError(ConfigurationError):
    """A policy or its prices are unreadable, malformed, or do not cover what they are used for."""


class GrammarError(AdaServeError):
    """A JSON Schema cannot be compiled, or its grammar failed; the text goes on a sentence about the schema."""


class UnreadableMessage(AdaServeError):
    """A stream entry that does not decode to its topic's message."""


class OutOfBlocks(AdaServeError):
    """The KV pool has fewer free blocks than a reservation needs."""


class BusUnavailable(AdaServeError):
    """Redis did not do what was asked and may do so later."""
