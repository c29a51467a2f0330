"""Django settings of the team."""

USE_I18N = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"page": "{{ word }}"})]},
    }
]
