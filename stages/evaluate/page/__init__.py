"""The report's page: charts, words and the template that holds them."""
