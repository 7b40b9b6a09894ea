#define BOOST_TEST_MODULE nudge
#include <boost/test/unit_test.hpp>
