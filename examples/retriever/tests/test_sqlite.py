from dsrl.testing import RetrieverContract


class TestSQLite(RetrieverContract):
    plugin = "sqlite"
    searches = (*RetrieverContract.searches, (["coughing"], "cough"), (["naive"], "odd"))
