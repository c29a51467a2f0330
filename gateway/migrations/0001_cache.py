"""The tables of the cache."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="CachePurge",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=16)),
                ("value", models.TextField()),
                ("at_s", models.FloatField()),
            ],
        ),
        migrations.CreateModel(
            name="CachedResponse",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=32)),
                ("variant", models.CharField(max_length=32)),
                ("vary", models.TextField()),
                ("path_digest", models.CharField(max_length=32)),
                ("route", models.TextField()),
                ("scheme", models.TextField()),
                ("host", models.TextField()),
                ("target", models.TextField()),
                ("extra", models.TextField()),
                ("tags", models.TextField()),
                ("requested_s", models.FloatField()),
                ("received_s", models.FloatField()),
                ("useful_until_s", models.FloatField()),
                ("size", models.BigIntegerField()),
                ("record", models.BinaryField()),
                ("body", models.BinaryField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["digest"], name="by_digest"),
                    models.Index(fields=["path_digest"], name="by_path_digest"),
                    models.Index(fields=["received_s"], name="by_received_s"),
                    models.Index(fields=["useful_until_s"], name="by_useful_until_s"),
                ],
                "constraints": [models.UniqueConstraint(fields=("variant",), name="one_row_a_variant")],
            },
        ),
    ]
