"""What several processes of one machine share in files: which of them live, and rows that a kill does not take.

Law: it knows no Kafka and no HTTP; what the rows mean is for whoever keeps them.
"""
