"""The shop's orders as messages of shop.proto. Needs what grpc_tools.protoc made of it on the path."""

import hashlib

import shop_pb2
from google.protobuf import json_format


def message(order):
    made = shop_pb2.Order(
        id=int(order["id"]),
        customer_name=order["customer"],
        status=shop_pb2.Status.Value(order["status"]),
        total=float(order["total"]),
        lines=[shop_pb2.Line(sku=line["sku"], item_count=line["count"]) for line in order["lines"]],
        stock={line["sku"]: 2**60 + line["count"] for line in order["lines"]},
        checksum=hashlib.sha256(order["id"].encode()).digest()[:5],
    )
    made.placed_at.FromJsonString(order["placed"])
    if order["note"] is not None:
        made.note = order["note"]
    return made


def canonical_json(order):
    """As protobuf's own library writes it: the expectation of the driver."""
    return json_format.MessageToDict(message(order))
