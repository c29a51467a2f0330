"""A URL that was written to is found by the digest of its target, however many queries are stored of its path."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gateway", "0001_cache")]

    operations = [
        migrations.AddField(
            "cachedresponse",
            "target_digest",
            # A gateway of the version before goes on storing while it is replaced.
            models.CharField(max_length=32, db_default=""),
        ),
        migrations.AddIndex("cachedresponse", models.Index(fields=["target_digest"], name="by_target_digest")),
        # What has no digest cannot be found by it, and is not looked at any more.
        migrations.RunSQL("DELETE FROM gateway_cachedresponse", migrations.RunSQL.noop),
    ]
