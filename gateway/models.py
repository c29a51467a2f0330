"""The tables of the cache: stored responses, and purges for all workers and replicas."""

from __future__ import annotations  # the stubs' fields take parameters, Django's own do not

from django.db import models


class CachedResponse(models.Model):
    """A stored response. `digest` is the digest of its key, `variant` that of key, Vary and the values.

    `record` is a `cache.policy.Entry` without its body; what queries need has columns of its own, and the body comes
    last, so that a scan need not read it. Rows of the previous version have an empty `target_digest`: a purge of their
    URL would not find them, so they are ignored.
    """

    digest: models.CharField[str, str] = models.CharField(max_length=32)
    variant: models.CharField[str, str] = models.CharField(max_length=32)
    vary: models.TextField[str, str] = models.TextField()
    path_digest: models.CharField[str, str] = models.CharField(max_length=32)
    target_digest: models.CharField[str, str] = models.CharField(max_length=32, db_default="")
    route: models.TextField[str, str] = models.TextField()
    scheme: models.TextField[str, str] = models.TextField()
    host: models.TextField[str, str] = models.TextField()
    target: models.TextField[str, str] = models.TextField()
    extra: models.TextField[str, str] = models.TextField()
    tags: models.TextField[str, str] = models.TextField()
    requested_s: models.FloatField[float, float] = models.FloatField()
    received_s: models.FloatField[float, float] = models.FloatField()
    useful_until_s: models.FloatField[float, float] = models.FloatField()
    size: models.BigIntegerField[int, int] = models.BigIntegerField()
    record: models.BinaryField[bytes, bytes] = models.BinaryField()
    body: models.BinaryField[bytes, bytes] = models.BinaryField()

    class Meta:
        # Not by `unique` and `db_index`: on PostgreSQL each of them would make a second index, for LIKE.
        constraints = (models.UniqueConstraint(fields=["variant"], name="one_row_a_variant"),)
        indexes = (
            *(models.Index(fields=[name], name=f"by_{name}") for name in ("digest", "path_digest", "target_digest")),
            *(models.Index(fields=[name], name=f"by_{name}") for name in ("received_s", "useful_until_s")),
        )


class CachePurge(models.Model):
    """A purge. Workers poll for those after the last one that they have applied."""

    id: int
    kind: models.CharField[str, str] = models.CharField(max_length=16)
    value: models.TextField[str, str] = models.TextField()
    at_s: models.FloatField[float, float] = models.FloatField()
