"""Reads the text of `/metrics`."""

from prometheus_client.parser import text_string_to_metric_families

from queuectl.http.health import About

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
ABOUT = About("sqlite", "power-safe")


def samples(text: bytes) -> Samples:
    """All samples by name and labels."""
    families = text_string_to_metric_families(text.decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """One sample."""
    return found[name, tuple(sorted(labels.items()))]
