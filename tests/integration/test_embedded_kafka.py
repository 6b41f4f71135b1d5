def test_a(kafka, topic):
    assert topic(3)
