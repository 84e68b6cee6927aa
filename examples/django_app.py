"""A Django application whose users send each other notes, which nobody else can read.

Shows: the back end publishes with an API key, and gives each logged-in user a token that lets the
browser subscribe to that user's topics only. The users are ann and bob, with the password "sesame".
"""

import json
import os
import time
from urllib.request import Request, urlopen

import django
import jwt
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.management import call_command, execute_from_command_line
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.cache import never_cache

PAGE = """<!doctype html>
<html lang="en" style="max-width: 32rem; margin: auto; color-scheme: light dark">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Notes</title>
<style>html { font: 1rem/1.6 system-ui; } input, button { padding: .5rem; font: inherit; }</style>
<form method="post">{% csrf_token %}{% if form %}{{ form }} <button>Log in</button></form>{% else %}
<h1>Notes for {{ user }}</h1>
<input name="to" size="6" aria-label="To" value="bob">
<input name="text" size="15" aria-label="Note"> <button>Send</button></form>
<p role="status">{{ outcome }}</p><ul></ul>
<script type="module">
import { connect } from "http://localhost:8080/client.js";
const client = connect(undefined, { token: async () => (await fetch("/token")).text() });
client.subscribe("user/{{ user.pk }}/notes", ({ kind, payload }) => {
  const textContent = kind === "event" ? `${payload.from}: ${payload.text}` : "Some are missing.";
  document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent }));
}, { lastN: 20 });
</script>{% endif %}
"""
OPTIONS = {"loaders": [("django.template.loaders.locmem.Loader", {"page.html": PAGE})]}
DATABASE = "file:notes?mode=memory&cache=shared"
settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    SECRET_KEY=os.urandom(32).hex(),  # your project has one that outlives a restart
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[f"django.contrib.{it}" for it in ("auth", "contenttypes", "sessions")],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": OPTIONS}],
)
django.setup()
from django.contrib.auth.models import User  # noqa: E402, these two need the settings
from django.contrib.auth.views import LoginView  # noqa: E402


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
    outcome = ""
    if request.method == "POST":
        to = User.objects.filter(username=request.POST.get("to")).first()
        note = {"from": request.user.username, "text": request.POST.get("text")}
        outcome = publish(f"user/{to.pk}/notes", note) if to else "There is no such user."
    return render(request, "page.html", {"user": request.user, "outcome": outcome})


login = LoginView.as_view(template_name="page.html", next_page="/")
urlpatterns = [path("", notes), path("token", token), path("accounts/login/", login)]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    for name in ("ann", "bob"):
        User.objects.create_user(name, password="sesame")
    execute_from_command_line()
