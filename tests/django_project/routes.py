"""What the gateway serves: routes of the environment, views of the shop, and an API made by django-ninja."""

from django.urls import path
from gateway.routing import cached, from_environment, legacy, route
from shop import views
from shop.api import api

urlpatterns = [
    *from_environment(),
    route("GET /items", views.items),
    route("GET /items/{id}", views.item),
    route("GET /slow", views.slow),
    route("GET /price/{name}", views.price),
    route("GET /stored/{name}", cached(views.price, "60s"), name="stored"),
    route("GET /both/{id}", views.both),
    route("GET /reports/{year}", legacy(views.report)),
    route("GET /converted/{id}/{size}/{exact}", views.converted),
    route("GET /results/{kind}", views.results),
    route("GET /results-in-thread/{kind}", views.results_in_thread),
    route("GET /fails", views.fails),
    route("GET /fails-in-thread", views.fails_in_thread),
    route("GET /heard", views.heard),
    route("GET /chosen/{size}/{rank}", views.chosen),
    route("GET /events", views.events),
    route("GET /ends", views.ends),
    route("GET /moved", views.moved),
    path("who/", views.who),
    path("django/<int:id>/", views.item),
    path("api/", api.urls),
]
