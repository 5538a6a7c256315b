#include "tensor/tensor.h"

#include <doctest/doctest.h>

#include <memory>
#include <numeric>

using namespace mc;

namespace {

Tensor counting(const Shape& shape) {  // 0, 1, 2, ...
    Tensor t = Tensor::empty(shape);
    std::iota(t.data<float>(), t.data<float>() + t.numel(), 0.0f);
    return t;
}

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("tensor: made from values, with row-major strides") {
    const Tensor t = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});
    CHECK(t.strides() == Shape{3, 1});
    CHECK(t.item<float>({1, 2}) == 6);
    CHECK(t.is_contiguous());
    CHECK(t.size(-1) == 3);
    CHECK(Tensor::zeros({2}, DType::i64).to_vector<int64_t>() == std::vector<int64_t>{0, 0});
    CHECK(Tensor::full({2}, 1.5, DType::f64).to_vector<double>() == std::vector<double>{1.5, 1.5});
    CHECK(Tensor::from_bools({0, 7}, {2}).item<bool>({1}));
    CHECK(Tensor::full({}, 3).item<float>() == 3);
    CHECK(Tensor::empty({0, 4}).numel() == 0);
    CHECK_FALSE(Tensor().defined());
}

TEST_CASE("tensor: views share storage and know their strides") {
    const Tensor t = counting({2, 3, 4});
    const Tensor transposed = t.transpose(0, -1);
    CHECK(transposed.shape() == Shape{4, 3, 2});
    CHECK(transposed.strides() == Shape{1, 4, 12});
    CHECK_FALSE(transposed.is_contiguous());
    CHECK(transposed.item<float>({3, 1, 1}) == t.item<float>({1, 1, 3}));

    const Tensor permuted = t.permute({1, 2, 0});
    CHECK(permuted.shape() == Shape{3, 4, 2});
    CHECK(permuted.item<float>({2, 3, 1}) == t.item<float>({1, 2, 3}));

    const Tensor sliced = t.slice(1, -2, 3);
    CHECK(sliced.shape() == Shape{2, 2, 4});
    CHECK(sliced.item<float>({1, 0, 0}) == t.item<float>({1, 1, 0}));
    CHECK(t.slice(2, 1, 1).numel() == 0);
    CHECK(t.slice(0, 1, 2).is_contiguous());

    const Tensor row = Tensor::from({1, 2, 3}, {3});
    const Tensor expanded = row.expand({2, -1});
    CHECK(expanded.shape() == Shape{2, 3});
    CHECK(expanded.strides() == Shape{0, 1});
    CHECK(expanded.item<float>({1, 2}) == 3);
    CHECK(row.unsqueeze(0).shape() == Shape{1, 3});
    CHECK(row.unsqueeze(-1).shape() == Shape{3, 1});
    CHECK(row.unsqueeze(0).is_contiguous());
    CHECK(row.unsqueeze(0).squeeze(0).shape() == Shape{3});

    const Tensor flat = t.reshape({-1, 4});
    CHECK(flat.shape() == Shape{6, 4});
    for (const Tensor& view : {transposed, permuted, sliced, flat})
        CHECK(view.storage() == t.storage());
    flat.data<float>()[0] = 99;
    CHECK(transposed.item<float>({0, 0, 0}) == 99);
}

TEST_CASE("tensor: reshape of empty and scalar tensors") {
    CHECK(Tensor::empty({0, 3}).reshape({3, 0}).shape() == Shape{3, 0});
    CHECK(Tensor::empty({0, 3}).reshape({-1, 3}).shape() == Shape{0, 3});
    CHECK(Tensor::full({}, 1).reshape({1, -1}).shape() == Shape{1, 1});
    CHECK(Tensor::full({1}, 1).reshape({}).shape() == Shape{});
}

TEST_CASE("tensor: strided views become contiguous copies") {
    const Tensor t = counting({2, 3});
    const Tensor turned = t.transpose(0, 1).contiguous();
    CHECK(turned.is_contiguous());
    CHECK(turned.storage() != t.storage());
    CHECK(turned.to_vector<float>() == Floats{0, 3, 1, 4, 2, 5});
    CHECK(t.transpose(0, 1).reshape({6}).to_vector<float>() == Floats{0, 3, 1, 4, 2, 5});
    CHECK(t.slice(1, 1, 3).to_vector<float>() == Floats{1, 2, 4, 5});
    CHECK(t.slice(0, 1, 2).expand({2, 3}).to_vector<float>() == Floats{3, 4, 5, 3, 4, 5});
    const Tensor bools = Tensor::from_bools({1, 0, 0, 1, 1, 0}, {2, 3}).transpose(0, 1);
    CHECK(bools.contiguous().item<bool>({0, 1}));
    CHECK(Tensor::from_ids({1, 2, 3, 4}, {2, 2}).transpose(0, 1).to_vector<int64_t>() ==
          std::vector<int64_t>{1, 3, 2, 4});
    CHECK(t.contiguous().storage() == t.storage());
    CHECK(t.clone().storage() != t.storage());
    const Tensor deep = counting({2, 3, 2, 5}).permute({3, 1, 0, 2});
    const Tensor copy = deep.contiguous();
    for (int64_t a = 0; a < 5; ++a)
        for (int64_t b = 0; b < 3; ++b)
            CHECK(copy.item<float>({a, b, 1, 0}) == deep.item<float>({a, b, 1, 0}));
}

TEST_CASE("tensor: conversion") {
    const Tensor t = Tensor::from({1.5f, -2, 0}, {3});
    CHECK(t.to(DType::f32).storage() == t.storage());
    CHECK(t.to(DType::f64).to_vector<double>() == std::vector<double>{1.5, -2, 0});
    CHECK(t.to(DType::i64).to_vector<int64_t>() == std::vector<int64_t>{1, -2, 0});
    CHECK(t.to(DType::f16).to(DType::f32).to_vector<float>() == Floats{1.5f, -2, 0});
    CHECK(t.to(DType::bf16).to(DType::f32).to_vector<float>() == Floats{1.5f, -2, 0});
}

TEST_CASE("tensor: in place") {
    Tensor t = Tensor::zeros({2, 2});
    const uint32_t version = t.version();
    t.fill_(2);
    CHECK(t.to_vector<float>() == Floats{2, 2, 2, 2});
    for (DType half : {DType::f16, DType::bf16})
        CHECK(Tensor::full({2}, -1.5, half).to(DType::f32).to_vector<float>() ==
              Floats{-1.5, -1.5});
    t.copy_(Tensor::from({1, 2, 3, 4}, {2, 2}));
    CHECK(t.to_vector<float>() == Floats{1, 2, 3, 4});
    CHECK(t.reshape({4}).version() == version + 2);  // shared by views
    t.copy_(Tensor::full({2, 2}, 9, DType::f64));
    CHECK(t.item<float>({1, 1}) == 9);
    t.copy_(Tensor::from({1, 2, 3, 4}, {2, 2}).transpose(0, 1));
    CHECK(t.to_vector<float>() == Floats{1, 3, 2, 4});
}

TEST_CASE("tensor: borrowed memory keeps its owner alive") {
    auto owner = std::make_shared<std::vector<float>>(Floats{1, 2, 3});
    const std::weak_ptr<std::vector<float>> watch = owner;
    Tensor t = Tensor::borrow(owner->data(), {3}, DType::f32, owner).slice(0, 1, 3);
    owner.reset();
    CHECK_FALSE(watch.expired());
    CHECK(t.to_vector<float>() == Floats{2, 3});
    t = Tensor();
    CHECK(watch.expired());
}

TEST_CASE("tensor: errors name operation and shapes") {
    const Tensor t = counting({2, 3});
    CHECK_THROWS_WITH_AS(Tensor::from({1, 2}, {3}), "[tensor] 2 values for shape (3)", Error);
    CHECK_THROWS_WITH_AS(Tensor::empty({2, -1}), doctest::Contains("negative size"), Error);
    CHECK_THROWS_WITH_AS(Tensor::empty({int64_t{1} << 40, int64_t{1} << 40}),
                         doctest::Contains("larger than any memory"), Error);
    CHECK_THROWS_WITH_AS(Tensor::empty({2}, DType::f32, DeviceType::cuda),
                         doctest::Contains("use the device cpu"), Error);
    CHECK_THROWS_WITH_AS(t.data<double>(), doctest::Contains("asked as f64"), Error);
    CHECK_THROWS_WITH_AS(t.item<float>(), doctest::Contains("(2, 3)"), Error);
    CHECK_THROWS_WITH_AS(t.size(2), "[tensor] dimension 2 of shape (2, 3)", Error);
    CHECK_THROWS_AS(t.size(-3), Error);
    CHECK_THROWS_WITH_AS(t.reshape({4, 2}), "[reshape] got (2, 3), which does not fill (4, 2)",
                         Error);
    for (const Shape& bad : {Shape{-1, 4}, Shape{-1, -1}, Shape{-2, -3}, Shape{-1, 0}})
        CHECK_THROWS_AS(t.reshape(bad), Error);
    CHECK_THROWS_AS(Tensor::full({1}, 0).reshape({-1, -1}), Error);
    CHECK_THROWS_AS(Tensor::empty({0, 3}).reshape({0, -1}), Error);
    CHECK_THROWS_AS(t.permute({0}), Error);
    CHECK_THROWS_WITH_AS(t.permute({0, 0}), doctest::Contains("twice"), Error);
    CHECK_THROWS_AS(t.slice(1, 2, 1), Error);
    CHECK_THROWS_AS(t.slice(1, 0, 4), Error);
    CHECK_THROWS_AS(t.slice(1, -4, 2), Error);
    CHECK_THROWS_WITH_AS(t.expand({2, 4}), "[expand] (2, 3) to (2, 4)", Error);
    CHECK_THROWS_AS(t.expand({3}), Error);
    CHECK_THROWS_AS(counting({1}).expand({-2}), Error);
    CHECK_THROWS_AS(t.squeeze(0), Error);
    CHECK_THROWS_AS(t.unsqueeze(3), Error);
    Tensor turned = t.transpose(0, 1);
    CHECK_THROWS_AS(turned.fill_(0), Error);
    CHECK_THROWS_AS(turned.copy_(counting({3, 2})), Error);
    Tensor whole = t.clone();
    CHECK_THROWS_WITH_AS(whole.copy_(counting({3, 2})), "[copy_] got (3, 2), want (2, 3)", Error);
    CHECK_THROWS_WITH_AS(dispatch_float(DType::i64, "gelu", [](auto) {}),
                         doctest::Contains("[gelu] got i64"), Error);
}

TEST_CASE("tensor: broadcast_loop gives stride 0 where a size is repeated") {
    const StridedLoop loop = broadcast_loop({2, 3}, counting({3}), counting({2, 1}));
    CHECK(loop.dims == 2);
    CHECK(loop.stride_a[0] == 0);
    CHECK(loop.stride_a[1] == 1);
    CHECK(loop.stride_b[0] == 1);
    CHECK(loop.stride_b[1] == 0);
}
