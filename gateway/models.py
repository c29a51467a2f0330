"""What the cache keeps in a database: stored answers, and the purges that every worker and replica must hear of."""

from __future__ import annotations  # the stubs' fields take parameters, Django's own do not

from django.db import models


class CachedResponse(models.Model):
    """A stored answer. `digest` is its key's, `variant` that of the key and of what it varies on.

    `record` is a `storing.Entry` without its body; what is asked for in queries stands in columns of its own, and the
    body last, so that a scan need not read it. Rows of the version before have an empty `target_digest`: a purge of
    their URL would not find them, so they are not looked at.
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
    """A purge that has been made: whoever holds answers in memory asks for those later than the last it knows."""

    id: int
    kind: models.CharField[str, str] = models.CharField(max_length=16)
    value: models.TextField[str, str] = models.TextField()
    at_s: models.FloatField[float, float] = models.FloatField()
