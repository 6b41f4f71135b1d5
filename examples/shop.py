"""A Flask app of one's own, with recado's routes under /events."""

from flask import Flask

import recado

app = Flask(__name__)
app.register_blueprint(recado.blueprint(), url_prefix="/events")


@app.get("/")
def index() -> str:
    """Say what to try."""
    return 'POST /events/send {"message": {"to": "ada@example.org"}, "topic": "flask-topic"}\n'


if __name__ == "__main__":
    recado.serve(app)
