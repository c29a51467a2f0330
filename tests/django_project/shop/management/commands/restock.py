"""`gateway restock NAME...`."""

from typing import Any

from django.core.management import BaseCommand, CommandParser

from shop.models import Item


class Command(BaseCommand):
    help = "Put items into the shop."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="+")

    def handle(self, *args: Any, **options: Any) -> None:
        for name in options["names"]:
            Item.objects.get_or_create(name=name)
        self.stdout.write(f"{Item.objects.count()} items")
