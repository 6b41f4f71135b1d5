"""The gateway: `POST /send` and `POST /flush`, answered once Kafka has confirmed. Run it: `python app.py`."""

import recado

app = recado.create_app()

if __name__ == "__main__":
    recado.serve(app)
