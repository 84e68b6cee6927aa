"""A Django application that sends its users notes, which nobody else can read.

Shows: the back end publishes with an API key, and gives each logged-in user a token that lets the
browser subscribe to that user's topics and to no others. The users are ann and bob, both with the
password "sesame". Your own project needs the view `token`, `publish`, and the script of the page.
"""

import json
import os
import sys
import time
from urllib.request import Request, urlopen

import django
import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.core.management import call_command, execute_from_command_line
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import include, path
from django.views.decorators.cache import never_cache

PAGE = """<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Notes</title>
<style>
  body { max-width: 32rem; margin: auto; padding: 1rem; font: 1rem/1.6 system-ui, sans-serif; }
  form { display: flex; flex-wrap: wrap; gap: .5rem; } [name=text] { flex: 1; min-width: 0; }
  h1 { width: 100%; margin: 0; font-size: 1.3rem; } input, button { padding: .5rem; font: inherit; }
</style>
<form method="post">{% csrf_token %}{% if form %}{{ form }} <button>Log in</button></form>{% else %}
<h1>Notes for {{ user }}</h1>
<input name="to" size="8" aria-label="To" value="bob">
<input name="text" aria-label="Note"> <button>Send</button></form>
<p role="status">{% if note.text %}{{ outcome }}{% endif %}</p><ul></ul>
<script type="module">
import { connect } from "http://localhost:8080/client.js";

const client = connect(undefined, { token: async () => (await fetch("/token")).text() });
client.subscribe("user/{{ user.pk }}/notes", ({ kind, payload }) => {
  const textContent = kind === "event" ? `${payload.from}: ${payload.text}` : "Some are missing.";
  document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent }));
}, { lastN: 20 });
</script>{% endif %}
"""
PAGES = {"registration/login.html": PAGE, "notes.html": PAGE}
DATABASE = "file:notes?mode=memory&cache=shared"
settings.configure(
    DEBUG=True,
    SECRET_KEY=os.urandom(32).hex(),
    ROOT_URLCONF=__name__,
    LOGIN_REDIRECT_URL="/",
    INSTALLED_APPS=[f"django.contrib.{it}" for it in ("auth", "contenttypes", "sessions")],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}},
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", PAGES)]},
        }
    ],
)
django.setup()


@login_required
@never_cache
def token(request):
    rights = {"subscribe": ["user/{sub}/#"]}
    claims = {"sub": str(request.user.pk), "exp": int(time.time()) + 600, **rights}
    signed = jwt.encode(claims, os.environ["JWT_SECRET"], "HS256")
    return HttpResponse(signed, content_type="text/plain")


def publish(topic: str, payload: object) -> str:
    """Publish with the API key, and return the outcome in words."""
    body = json.dumps({"topic": topic, "payload": payload}).encode()
    headers = {"X-API-Key": os.environ["API_KEY"]}
    try:
        urlopen(Request("http://localhost:8080/publish", body, headers), timeout=10).close()
    except OSError as error:  # 404: the user is not there
        return f"Not sent: {error}"
    return "Sent."


@login_required
def notes(request):
    """Show the page of a user, and send a note to another."""
    to = get_user_model().objects.filter(username=request.POST.get("to")).first()
    note = {"from": request.user.username, "text": request.POST.get("text")}
    outcome = publish(f"user/{to.pk}/notes", note) if to else "There is no such user."
    return render(request, "notes.html", {"user": request.user, "note": note, "outcome": outcome})


urlpatterns = [
    path("", notes),
    path("token", token),
    path("accounts/", include("django.contrib.auth.urls")),
]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    for name in ("ann", "bob"):
        get_user_model().objects.create_user(name, password="sesame")
    execute_from_command_line(sys.argv)
