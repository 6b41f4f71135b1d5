"""What is compared with: the Flask and Kafka tutorial's producer, made to wait for Kafka by `flush()` per request.

Run by gunicorn, 2 processes of 8 threads each.
"""

import json
import os

from confluent_kafka import Producer
from flask import Flask, jsonify, request

app = Flask(__name__)
producer = None


def get_producer() -> Producer:
    global producer
    if producer is None:
        producer = Producer(
            {
                "bootstrap.servers": os.environ["BOOTSTRAP"],
                "acks": "all",
                "retries": 5,
                "compression.type": "lz4",
            }
        )
    return producer


@app.post("/send")
def send():
    data = request.get_json()
    failed = []
    get_producer().produce(
        data["topic"],
        json.dumps(data["message"]).encode(),
        on_delivery=lambda error, message: failed.append(error) if error else None,
    )
    get_producer().flush()
    return (jsonify(error=str(failed[0])), 500) if failed else jsonify(status="sent")
