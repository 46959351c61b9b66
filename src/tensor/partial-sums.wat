;; Sums of x_k·w_k term by term, in order, of two rows of X at a time: one in each lane. Compiled by scripts/build-simd.mjs
;; into partial-sums-module.ts.
;;
;; $x: pairs of rows, $stride bytes apart, of one pair or more; $w: $n weights, 1 or more; $out: [pairs, 8, 2].
(module
  (memory (import "memory" "memory") 1)

  ;; A term is its two values.
  (func (export "certain")
    (param $x i32) (param $pairs i32) (param $stride i32) (param $w i32) (param $n i32) (param $out i32)
    (local $at i32) (local $to i32) (local $end i32) (local $lastX i32)
    (local $weight v128) (local $term v128) (local $sum v128) (local $size v128) (local $squares v128)
    (local $partials v128) (local $partialSquares v128) (local $largest v128) (local $small v128)
    (local.set $end (i32.add (local.get $w) (i32.shl (local.get $n) (i32.const 3))))
    (local.set $lastX (i32.add (local.get $x) (i32.mul (local.get $pairs) (local.get $stride))))
    (loop $twoRows
      (local.set $to (local.get $x))
      (local.set $at (local.get $w))
      (local.set $sum (v128.const i64x2 0 0))
      (local.set $squares (v128.const i64x2 0 0))
      (local.set $partials (v128.const i64x2 0 0))
      (local.set $partialSquares (v128.const i64x2 0 0))
      (local.set $largest (v128.const i64x2 0 0))
      (local.set $small (v128.const i64x2 0 0))
      (loop $terms
        (local.set $weight (v128.load64_splat (local.get $at)))
        (local.set $term (f64x2.mul (local.get $weight) (v128.load (local.get $to))))
        (local.set $sum (f64x2.add (local.get $sum) (local.get $term)))
        (local.set $size (f64x2.abs (local.get $sum)))
        (local.set $largest (f64x2.pmax (local.get $largest) (local.get $size)))
        (local.set $small (f64x2.add (local.get $small) (v128.and (v128.const f64x2 1 1)
          (f64x2.lt (f64x2.abs (local.get $term)) (f64x2.mul (v128.const f64x2 0x1p-18 0x1p-18) (local.get $size))))))
        (local.set $squares (f64x2.add (local.get $squares) (f64x2.mul (local.get $term) (local.get $term))))
        (local.set $partials (f64x2.add (local.get $partials) (local.get $sum)))
        (local.set $partialSquares
          (f64x2.add (local.get $partialSquares) (f64x2.mul (local.get $sum) (local.get $sum))))
        (local.set $to (i32.add (local.get $to) (i32.const 16)))
        (br_if $terms (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
      (v128.store (local.get $out) (local.get $sum))
      (v128.store offset=16 (local.get $out) (local.get $squares))
      (v128.store offset=32 (local.get $out) (local.get $partials))
      (v128.store offset=48 (local.get $out) (local.get $partialSquares))
      (v128.store offset=64 (local.get $out) (local.get $largest))
      (v128.store offset=80 (local.get $out) (local.get $small))
      (local.set $out (i32.add (local.get $out) (i32.const 128)))
      (br_if $twoRows
        (i32.lt_u (local.tee $x (i32.add (local.get $x) (local.get $stride))) (local.get $lastX)))))

  ;; A term is its two values, their two variances and their two jumps. An infinite variance times a zero weight is 0: that
  ;; input does not reach the sum.
  (func (export "uncertain")
    (param $x i32) (param $pairs i32) (param $stride i32) (param $w i32) (param $n i32) (param $out i32)
    (local $at i32) (local $to i32) (local $end i32) (local $lastX i32)
    (local $weight v128) (local $term v128) (local $sum v128) (local $size v128) (local $squares v128)
    (local $partials v128) (local $partialSquares v128) (local $largest v128) (local $small v128)
    (local $variance v128) (local $reaching v128) (local $jump v128)
    (local.set $end (i32.add (local.get $w) (i32.shl (local.get $n) (i32.const 3))))
    (local.set $lastX (i32.add (local.get $x) (i32.mul (local.get $pairs) (local.get $stride))))
    (loop $twoRows
      (local.set $to (local.get $x))
      (local.set $at (local.get $w))
      (local.set $sum (v128.const i64x2 0 0))
      (local.set $squares (v128.const i64x2 0 0))
      (local.set $partials (v128.const i64x2 0 0))
      (local.set $partialSquares (v128.const i64x2 0 0))
      (local.set $largest (v128.const i64x2 0 0))
      (local.set $small (v128.const i64x2 0 0))
      (local.set $reaching (v128.const i64x2 0 0))
      (local.set $jump (v128.const i64x2 0 0))
      (loop $terms
        (local.set $weight (v128.load64_splat (local.get $at)))
        (local.set $term (f64x2.mul (local.get $weight) (v128.load (local.get $to))))
        (local.set $sum (f64x2.add (local.get $sum) (local.get $term)))
        (local.set $size (f64x2.abs (local.get $sum)))
        (local.set $largest (f64x2.pmax (local.get $largest) (local.get $size)))
        (local.set $small (f64x2.add (local.get $small) (v128.and (v128.const f64x2 1 1)
          (f64x2.lt (f64x2.abs (local.get $term)) (f64x2.mul (v128.const f64x2 0x1p-18 0x1p-18) (local.get $size))))))
        (local.set $squares (f64x2.add (local.get $squares) (f64x2.mul (local.get $term) (local.get $term))))
        (local.set $partials (f64x2.add (local.get $partials) (local.get $sum)))
        (local.set $partialSquares
          (f64x2.add (local.get $partialSquares) (f64x2.mul (local.get $sum) (local.get $sum))))
        (local.set $variance (v128.load offset=16 (local.get $to)))
        (local.set $reaching (f64x2.add (local.get $reaching) (v128.and
          (f64x2.mul (f64x2.mul (local.get $weight) (local.get $weight)) (local.get $variance))
          (v128.and
            (f64x2.ne (local.get $variance) (v128.const i64x2 0 0))
            (f64x2.ne (local.get $weight) (v128.const i64x2 0 0))))))
        (local.set $jump (f64x2.max (local.get $jump)
          (f64x2.mul (f64x2.abs (local.get $weight)) (v128.load offset=32 (local.get $to)))))
        (local.set $to (i32.add (local.get $to) (i32.const 48)))
        (br_if $terms (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $end))))
      (v128.store (local.get $out) (local.get $sum))
      (v128.store offset=16 (local.get $out) (local.get $squares))
      (v128.store offset=32 (local.get $out) (local.get $partials))
      (v128.store offset=48 (local.get $out) (local.get $partialSquares))
      (v128.store offset=64 (local.get $out) (local.get $largest))
      (v128.store offset=80 (local.get $out) (local.get $small))
      (v128.store offset=96 (local.get $out) (local.get $reaching))
      (v128.store offset=112 (local.get $out) (local.get $jump))
      (local.set $out (i32.add (local.get $out) (i32.const 128)))
      (br_if $twoRows
        (i32.lt_u (local.tee $x (i32.add (local.get $x) (local.get $stride))) (local.get $lastX))))))
