import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["django.contrib.staticfiles"]
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
if not os.environ.get("WITHOUT_STATIC_ROOT"):
    STATIC_ROOT = BASE_DIR / "staticfiles"
