"""A service behind the gateway: it reads who calls from the identity headers, and verifies no token.

Only the gateway can reach it, and only the gateway can write these headers. So they are as good as
a verified token, and the service needs no OIDC library.
"""

from typing import Annotated

from fastapi import FastAPI, Header
from pydantic import BaseModel

app = FastAPI()
orders: dict[int, "Order"] = {}


class NewOrder(BaseModel):
    item: str


class Order(NewOrder):
    number: int
    ordered_by: str


@app.get("/healthz")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/orders")
def list_orders(x_identity_subject: Annotated[str, Header()]) -> dict:
    return {"for": x_identity_subject, "orders": list(orders.values())}


@app.post("/orders", status_code=201)
def place_order(order: NewOrder, x_identity_subject: Annotated[str, Header()]) -> Order:
    number = len(orders) + 1
    orders[number] = Order(item=order.item, number=number, ordered_by=x_identity_subject)
    return orders[number]
