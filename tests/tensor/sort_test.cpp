#include "tensor/sort.h"

#include <doctest/doctest.h>

using namespace mc;

TEST_CASE("argsort and ranks go row by row, of views too") {
    const Tensor x = Tensor::from({3, 1, 1, 2, 0, 9}, {3, 2}).transpose(0, 1);  // 3 1 0 / 1 2 9
    CHECK(argsort(x).to_vector<int64_t>() == std::vector<int64_t>{2, 1, 0, 0, 1, 2});
    CHECK(ranks(Tensor::from({5, 1, 5, 0}, {4})).to_vector<int64_t>() ==
          std::vector<int64_t>{2, 1, 3, 0});
    CHECK(argsort(Tensor::from({5, 1, 5, 0}, {4}).to(DType::f64)).to_vector<int64_t>() ==
          std::vector<int64_t>{3, 1, 0, 2});
    CHECK(ranks(Tensor::empty({2, 0})).shape() == Shape{2, 0});
    CHECK_THROWS_WITH_AS(argsort(Tensor::full({}, 1)),
                         "[argsort] got shape (), want at least one dimension", Error);
}
