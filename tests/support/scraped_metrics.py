"""Read a scrape of /metrics as numbers by name and labels."""

from prometheus_client.parser import text_string_to_metric_families

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def values(text: str) -> Values:
    """Return each sample's value by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def webhooks(found: Values) -> dict[tuple[str, str], float]:
    """Return the count of answered webhooks by outcome and tenant."""
    return {
        (dict(labels)["outcome"], dict(labels)["tenant_id"]): value
        for (name, labels), value in found.items()
        if name == "ticket_inbox_webhooks_total"
    }
