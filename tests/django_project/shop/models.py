"""What the shop sells."""

from django.db import models


class Item(models.Model):
    """One kind of goods."""

    name: models.TextField = models.TextField(unique=True)
    price: models.IntegerField = models.IntegerField(default=0)
