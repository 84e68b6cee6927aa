"""A FastAPI application whose users send each other notes, which nobody else can read.

Shows: the back end publishes with an API key, and gives each logged-in user a token that lets the
browser subscribe to that user's topics only. The users are ann and bob, with the password "sesame":
put your own login into `current_user`.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Annotated

import jwt
from broadcast_client import RefusedError, connect
from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

USERS = {"ann": "sesame", "bob": "sesame"}
PAGE = """<!doctype html>
<html lang="en" style="max-width: 32rem; margin: auto; color-scheme: light dark">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Notes</title>
<style>html { font: 1rem/1.6 system-ui; } input, button { padding: .5rem; font: inherit; }</style>
<h1>Notes for <span>USER</span></h1>
<form><input name="to" size="6" aria-label="To" value="bob">
<input name="text" size="15" aria-label="Note"> <button>Send</button></form>
<p role="status"></p><ul></ul>
<script type="module">
import { connect } from "http://localhost:8080/client.js";
const user = document.querySelector("span").textContent;
const client = connect(undefined, { token: async () => (await fetch("/token")).text() });
client.subscribe(`user/${user}/notes`, ({ kind, payload }) => {
  const textContent = kind === "event" ? `${payload.from}: ${payload.text}` : "Some are missing.";
  document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent }));
}, { lastN: 20 });
document.forms[0].onsubmit = async (event) => {
  event.preventDefault();
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(Object.fromEntries(new FormData(event.target)));
  const answer = await fetch("/notes", { method: "POST", headers, body });
  document.querySelector("p").textContent = (await answer.json()).detail;
};
</script>
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one connection to the server, which publishes for all users."""
    async with connect("ws://localhost:8080/ws", token=os.environ["API_KEY"]) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def current_user(login: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    """Return the name of the user that is logged in."""
    if USERS.get(login.username) != login.password:
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
    return login.username


@app.get("/token", response_class=PlainTextResponse)
def token(user: Annotated[str, Depends(current_user)], response: Response):
    response.headers["Cache-Control"] = "no-store"
    rights = {"subscribe": ["user/{sub}/#"]}
    claims = {"sub": user, "exp": int(time.time()) + 600, **rights}
    return jwt.encode(claims, os.environ["JWT_SECRET"], "HS256")


@app.post("/notes")
async def send(
    request: Request,
    to: Annotated[str, Body()],
    text: Annotated[str, Body()],
    user: Annotated[str, Depends(current_user)],
) -> dict[str, str]:
    """Send a note to a user."""
    if to not in USERS:
        raise HTTPException(404, "There is no such user.")
    note = {"from": user, "text": text}
    try:
        await request.app.state.client.publish(f"user/{to}/notes", note, timeout=10)
    except RefusedError as error:  # TOPIC_NOT_FOUND: the user is not there
        raise HTTPException(503, f"Not sent: {error.code}") from None
    return {"detail": "Sent."}


@app.get("/", response_class=HTMLResponse)
def page(user: Annotated[str, Depends(current_user)]) -> str:
    """Return the page of the user that is logged in."""
    return PAGE.replace("USER", escape(user))
