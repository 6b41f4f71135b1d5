"""The gateway: `POST /send` and `POST /flush`, answered once Kafka has confirmed. Run it: `python app.py`."""

import recado

if __name__ == "__main__":
    recado.serve(recado.create_app)
else:
    app = recado.create_app()  # for any WSGI server: gunicorn app:app
