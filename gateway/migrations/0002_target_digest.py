"""A purged URL is found by the digest of its target, however many queries are stored for its path."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gateway", "0001_cache")]

    operations = [
        migrations.AddField(
            "cachedresponse",
            "target_digest",
            # A gateway of the previous version goes on storing while it is replaced.
            models.CharField(max_length=32, db_default=""),
        ),
        migrations.AddIndex("cachedresponse", models.Index(fields=["target_digest"], name="by_target_digest")),
        # Rows without a digest cannot be found by it, and are no longer used.
        migrations.RunSQL("DELETE FROM gateway_cachedresponse", migrations.RunSQL.noop),
    ]
