"""What a Python team does today: PyJWT in a FastAPI dependency. The service itself, without any proxy."""

import os
from pathlib import Path

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

KEY = jwt.PyJWK.from_json(Path(os.environ["JWK"]).read_text())
AUDIENCE, ISSUER, SCOPE = (os.environ[name] for name in ("AUDIENCE", "ISSUER", "SCOPE"))
ANSWER = Path(os.environ["ANSWER"]).read_bytes()

app = FastAPI(openapi_url=None)
bearer = HTTPBearer()


def claims(credentials: HTTPAuthorizationCredentials = Depends(bearer)) -> dict:
    try:
        found = jwt.decode(credentials.credentials, KEY, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}) from error
    if SCOPE not in found.get("scope", "").split():
        raise HTTPException(403)
    return found


@app.get("/orders/echo")
def echo(found: dict = Depends(claims)) -> Response:
    return PlainTextResponse(found["sub"])


@app.get("/orders/{number}")
async def order(number: str, found: dict = Depends(claims)) -> Response:
    return Response(ANSWER, media_type="application/json")
